// Airflow's look, its address bar and its login. Everything else is in the attributes that htmx reads.
const root = document.documentElement
const outer = parent === window ? null : parent.document.documentElement
const COLOURS = ['bg', 'bg-muted', 'fg', 'fg-muted', 'border', 'brand-solid', 'brand-contrast']

function follow() {
  root.className = outer ? (outer.classList.contains('dark') ? 'dark' : 'light') : localStorage.theme || ''
  const style = outer && parent.getComputedStyle(outer)
  for (const name of outer ? COLOURS : []) root.style.setProperty(`--airflow-${name}`, style.getPropertyValue(`--chakra-colors-${name}`))
}
follow()
if (outer) new MutationObserver(follow).observe(outer, { attributes: true, attributeFilter: ['class'] })

// A colleague is sent the address of the outer page.
if (outer && !location.search && parent.location.search) location.replace(location.pathname + parent.location.search)
document.addEventListener('htmx:replacedInHistory', () => {
  if (outer) parent.history.replaceState(parent.history.state, '', parent.location.pathname + location.search)
})

document.addEventListener('htmx:beforeSend', ({ detail: { elt, xhr } }) => {
  const steps = document.getElementById(elt.dataset.steps)
  if (elt.dataset.clear) document.getElementById(elt.dataset.clear).value = ''
  if (!steps) return
  let seen = 0
  const show = () => { // each line of the answer is one step
    const end = xhr.responseText.lastIndexOf('\n') + 1
    steps.insertAdjacentHTML('beforeend', xhr.responseText.slice(seen, end))
    seen = end
  }
  steps.replaceChildren()
  xhr.addEventListener('progress', show)
  xhr.addEventListener('load', show)
})

document.addEventListener('htmx:afterSettle', ({ detail: { requestConfig } }) => {
  if (requestConfig.elt.isConnected || document.activeElement !== document.body) return
  const left = document.querySelector('.scroll') || document.getElementById('q')
  left.focus() // what had the focus is there no more, such as Next on the last page
})

document.addEventListener('htmx:sendError', () => {
  document.getElementById('message').textContent = 'This API server does not answer. Try again.'
})

document.addEventListener('htmx:responseError', ({ detail: { xhr } }) => {
  if (xhr.status === 401) top.location.reload() // the session has ended
})
