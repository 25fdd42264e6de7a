# Tags that make connections, and the policy that lets Airflow use them. Adapt names, account and region.

variable "airflow_role_name" {
  description = "The IAM role that Airflow runs as: an instance profile, a task role or a pod role."
  type        = string
}

# One cluster, two connections: each logs in as a database user of its own.
resource "aws_redshift_cluster" "warehouse" {
  cluster_identifier     = "warehouse"
  database_name          = "analytics"
  node_type              = "ra3.large"
  master_username        = "awsuser"
  manage_master_password = true
  skip_final_snapshot    = true

  tags = {
    "airflow:conn-id"           = "analytics reporting"
    "airflow:db-user"           = "airflow_etl"
    "airflow:db-user/reporting" = "bi_readonly"
  }
}

# Serverless logs in as the IAM role itself.
resource "aws_redshiftserverless_namespace" "sandbox" {
  namespace_name        = "sandbox"
  db_name               = "dev"
  manage_admin_password = true
}

resource "aws_redshiftserverless_workgroup" "sandbox" {
  namespace_name = aws_redshiftserverless_namespace.sandbox.namespace_name
  workgroup_name = "sandbox"

  tags = {
    "airflow:conn-id" = "sandbox"
  }
}

data "aws_caller_identity" "here" {}
data "aws_region" "here" {}
data "aws_partition" "here" {}

locals {
  redshift = "arn:${data.aws_partition.here.partition}:redshift:${data.aws_region.here.region}:${data.aws_caller_identity.here.account_id}"
}

data "aws_iam_policy_document" "airflow" {
  statement {
    sid = "FindTaggedWarehouses"
    actions = [
      "redshift:DescribeClusters",
      "redshift-serverless:ListWorkgroups",
      "redshift-serverless:ListNamespaces",
      "redshift-serverless:GetWorkgroup",
      "tag:GetResources",
    ]
    resources = ["*"]
  }

  statement {
    sid     = "LogInToTheClusterAsTheseUsersOnly"
    actions = ["redshift:GetClusterCredentials"]
    resources = [
      "${local.redshift}:dbuser:${aws_redshift_cluster.warehouse.cluster_identifier}/airflow_etl",
      "${local.redshift}:dbuser:${aws_redshift_cluster.warehouse.cluster_identifier}/bi_readonly",
      "${local.redshift}:dbname:${aws_redshift_cluster.warehouse.cluster_identifier}/analytics",
    ]
  }

  statement {
    sid       = "LogInToTheWorkgroup"
    actions   = ["redshift-serverless:GetCredentials"]
    resources = [aws_redshiftserverless_workgroup.sandbox.arn]
  }
}

resource "aws_iam_role_policy" "airflow" {
  name   = "redshift-secrets"
  role   = var.airflow_role_name
  policy = data.aws_iam_policy_document.airflow.json
}
