"""Examples to read and to copy. `make demo` runs them."""
