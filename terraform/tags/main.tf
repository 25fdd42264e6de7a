# The tags of a cluster or a workgroup, for the argument `tags` of its resource.

terraform {
  required_version = ">= 1.5"
}

variable "connections" {
  description = "What the warehouse claims: conn_ids, each with its fields."
  type = map(object({
    database    = optional(string)
    db_user     = optional(string)
    db_groups   = optional(list(string))
    db_roles    = optional(list(string))
    auto_create = optional(bool)
    auth        = optional(string)
    duration    = optional(number)
    endpoint    = optional(string)
    conn_type   = optional(string)
    team        = optional(string)
    extra       = optional(map(string), {})
  }))
}

variable "tag_prefix" {
  description = "The setting tag_prefix."
  type        = string
  default     = "airflow:"
}

locals {
  fields = {
    for conn_id, each in var.connections : conn_id => merge(
      {
        database    = each.database
        db-user     = each.db_user
        db-groups   = each.db_groups == null ? null : join(" ", each.db_groups)
        db-roles    = each.db_roles == null ? null : join(" ", each.db_roles)
        auto-create = each.auto_create == null ? null : tostring(each.auto_create)
        auth        = each.auth
        duration    = each.duration == null ? null : tostring(each.duration)
        endpoint    = each.endpoint
        conn-type   = each.conn_type
        team        = each.team
      },
      { for key, value in each.extra : "extra.${key}" => value },
    )
  }
}

output "tags" {
  description = "The tags."
  value = merge(
    { "${var.tag_prefix}conn-id" = join(" ", sort(keys(var.connections))) },
    [
      for conn_id, fields in local.fields : {
        for name, value in fields :
        (length(var.connections) == 1 ? "${var.tag_prefix}${name}" : "${var.tag_prefix}${name}/${conn_id}") => value
        if value != null
      }
    ]...
  )
}
