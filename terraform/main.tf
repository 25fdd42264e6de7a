data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

module "policy" {
  source = "./policy"

  account          = data.aws_caller_identity.current.account_id
  partition        = data.aws_partition.current.partition
  allow            = var.allow
  trusted          = var.trusted
  service_accounts = var.service_accounts
}

locals {
  creates_role = var.trusted != null || var.service_accounts != null
}

resource "aws_iam_policy" "this" {
  name        = var.name
  description = "What redshift-secrets needs to find tagged warehouses and to log in to them."
  policy      = jsonencode(module.policy.policy)

  lifecycle {
    precondition {
      condition     = !(local.creates_role && var.caller_role_name != null)
      error_message = "Set caller_role_name, or one of trusted and service_accounts."
    }
  }
}

resource "aws_iam_role" "this" {
  count = local.creates_role ? 1 : 0

  name                 = var.name
  assume_role_policy   = jsonencode(module.policy.trust_policy)
  max_session_duration = var.max_session_duration
}

resource "aws_iam_role_policy_attachment" "this" {
  count = local.creates_role || var.caller_role_name != null ? 1 : 0

  role       = local.creates_role ? aws_iam_role.this[0].name : var.caller_role_name
  policy_arn = aws_iam_policy.this.arn
}
