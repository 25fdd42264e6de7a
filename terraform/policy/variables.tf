variable "account" {
  description = "Account in which the warehouses are."
  type        = string
}

variable "partition" {
  description = "Partition of the account."
  type        = string
  default     = "aws"
}

variable "allow" {
  description = <<-EOT
    What is allowed. `redshift-secrets policy` prints what is tagged; this is for patterns that need not change with each tag.

    regions: where the warehouses are
    clusters: identifiers or patterns of clusters, [] for none
    databases: their databases
    db_users: database users that may be logged in as (auth db-user), such as etl_*
    db_groups: database groups that may be joined
    auto_create: whether these users may be created
    cluster_iam: whether the IAM identity may log in to clusters as itself (auth iam)
    workgroups: whether Serverless workgroups with the tag conn-id may be logged in to
    vpc_endpoints: whether Redshift-managed VPC endpoints are listed (endpoint vpc:<name>)
    admin_secrets: ARNs of admin secrets (auth secret), each with the ARN of its KMS key, "" where that is AWS's own
    assume_roles: ARNs of roles in other accounts
    session_tags: values of the tags that these roles are assumed with, by RedshiftDbUser, RedshiftDbGroups and RedshiftDbRoles
    tag_prefix: the setting tag_prefix
  EOT
  type = object({
    regions       = list(string)
    clusters      = optional(list(string), ["*"])
    databases     = optional(list(string), ["*"])
    db_users      = optional(list(string), [])
    db_groups     = optional(list(string), [])
    auto_create   = optional(bool, false)
    cluster_iam   = optional(bool, false)
    workgroups    = optional(bool, true)
    vpc_endpoints = optional(bool, false)
    admin_secrets = optional(map(string), {})
    assume_roles  = optional(list(string), [])
    session_tags  = optional(map(list(string)), {})
    tag_prefix    = optional(string, "airflow:")
  })
}

variable "trusted" {
  description = <<-EOT
    Who may assume the role.

    arns: ARNs of the role that Airflow runs as
    external_id: the external_id of the settings
    session_tags: values of the tags that it may be assumed with, by RedshiftDbUser, RedshiftDbGroups and RedshiftDbRoles
  EOT
  type = object({
    arns         = list(string)
    external_id  = optional(string)
    session_tags = optional(map(list(string)), {})
  })
  default = null
}

variable "service_accounts" {
  description = <<-EOT
    Service accounts of Kubernetes that have the role (IRSA).

    oidc_provider_arn: the OIDC provider of the EKS cluster
    subjects: namespace:name of each service account
  EOT
  type = object({
    oidc_provider_arn = string
    subjects          = list(string)
  })
  default = null
}
