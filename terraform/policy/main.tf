# The same statements that `redshift-secrets policy` prints, for names that may be patterns.

terraform {
  required_version = ">= 1.5"
}

locals {
  allow      = var.allow
  redshift   = [for region in local.allow.regions : "arn:${var.partition}:redshift:${region}:${var.account}"]
  workgroups = [for region in local.allow.regions : "arn:${var.partition}:redshift-serverless:${region}:${var.account}:workgroup/*"]
  dns_suffix = var.partition == "aws-cn" ? "amazonaws.com.cn" : "amazonaws.com"

  has_clusters = length(local.allow.clusters) > 0
  is_tagged    = { Null = { "aws:ResourceTag/${local.allow.tag_prefix}conn-id" = ["false"] } }
  in_regions   = { StringEquals = { "aws:RequestedRegion" = local.allow.regions } }

  databases = flatten([
    for base in local.redshift : [
      for cluster in local.allow.clusters : [
        for database in local.allow.databases : "${base}:dbname:${cluster}/${database}"
      ]
    ]
  ])
  users = flatten([
    for base in local.redshift : [
      for cluster in local.allow.clusters : [for user in local.allow.db_users : "${base}:dbuser:${cluster}/${user}"]
    ]
  ])
  groups = flatten([
    for base in local.redshift : [
      for cluster in local.allow.clusters : [for group in local.allow.db_groups : "${base}:dbgroup:${cluster}/${group}"]
    ]
  ])

  endpoint_actions = concat(
    local.has_clusters ? ["redshift:DescribeEndpointAccess"] : [],
    local.allow.workgroups ? ["redshift-serverless:ListEndpointAccess"] : [],
  )

  statements = [
    {
      when      = local.has_clusters
      sid       = "ListClusters"
      actions   = ["redshift:DescribeClusters"]
      resources = [for base in local.redshift : "${base}:cluster:*"]
    },
    {
      when       = local.allow.workgroups
      sid        = "ListWorkgroups"
      actions    = ["redshift-serverless:ListNamespaces", "redshift-serverless:ListWorkgroups", "tag:GetResources"]
      resources  = ["*"]
      conditions = local.in_regions
    },
    {
      when      = local.allow.workgroups
      sid       = "ReadTagsOfWorkgroups"
      actions   = ["redshift-serverless:ListTagsForResource"]
      resources = local.workgroups
    },
    {
      when       = local.allow.workgroups
      sid        = "DescribeWorkgroups"
      actions    = ["redshift-serverless:GetWorkgroup"]
      resources  = local.workgroups
      conditions = local.is_tagged
    },
    {
      when       = local.allow.vpc_endpoints && length(local.endpoint_actions) > 0
      sid        = "ListVpcEndpoints"
      actions    = local.endpoint_actions
      resources  = ["*"]
      conditions = local.in_regions
    },
    {
      when      = length(local.users) > 0
      sid       = "LogInToClusters"
      actions   = ["redshift:GetClusterCredentials"]
      resources = concat(local.users, local.databases)
    },
    {
      when      = length(local.users) > 0 && local.allow.auto_create
      sid       = "CreateDatabaseUsers"
      actions   = ["redshift:CreateClusterUser"]
      resources = local.users
    },
    {
      when      = length(local.users) > 0 && length(local.groups) > 0
      sid       = "JoinGroups"
      actions   = ["redshift:JoinGroup"]
      resources = local.groups
    },
    {
      when      = local.has_clusters && local.allow.cluster_iam
      sid       = "LogInToClustersAsIamIdentity"
      actions   = ["redshift:GetClusterCredentialsWithIAM"]
      resources = local.databases
    },
    {
      when       = local.allow.workgroups
      sid        = "LogInToWorkgroups"
      actions    = ["redshift-serverless:GetCredentials"]
      resources  = local.workgroups
      conditions = local.is_tagged
    },
    {
      when      = length(local.allow.admin_secrets) > 0
      sid       = "ReadAdminSecrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = keys(local.allow.admin_secrets)
    },
    {
      when      = length(local.allow.assume_roles) > 0
      sid       = "AssumeRoles"
      actions   = ["sts:AssumeRole"]
      resources = local.allow.assume_roles
    },
    {
      when       = length(local.allow.assume_roles) > 0 && length(local.allow.session_tags) > 0
      sid        = "TagSessions"
      actions    = ["sts:TagSession"]
      resources  = local.allow.assume_roles
      conditions = local.session_tags.allowed
    },
  ]

  decrypting = [
    for secret, key in local.allow.admin_secrets : {
      when      = true
      sid       = "DecryptAdminSecrets${index(keys(local.allow.admin_secrets), secret) + 1}"
      actions   = ["kms:Decrypt"]
      resources = [key]
      conditions = {
        StringEquals = {
          "kms:ViaService"                  = ["secretsmanager.${split(":", secret)[3]}.${local.dns_suffix}"]
          "kms:EncryptionContext:SecretARN" = [secret]
        }
      }
    } if key != ""
  ]

  session_tags = {
    for name, tags in { allowed   = local.allow.session_tags, trusted = try(var.trusted.session_tags, {}) } : name => {
      StringLikeIfExists          = { for key, values in tags : "aws:RequestTag/${key}" => values }
      "ForAllValues:StringEquals" = { "aws:TagKeys" = keys(tags) }
    }
  }

  principal   = var.trusted == null ? {} : { AWS = var.trusted.arns }
  external_id = try(var.trusted.external_id, null)
  trust = var.trusted == null ? [] : concat(
    [
      merge(
        { Sid = "AssumeRoles", Effect = "Allow", Principal = local.principal, Action = ["sts:AssumeRole"] },
        local.external_id == null ? {} : { Condition = { StringEquals = { "sts:ExternalId" = [local.external_id] } } },
      )
    ],
    [
      for condition in [local.session_tags.trusted] : {
        Sid       = "TagSessions"
        Effect    = "Allow"
        Principal = local.principal
        Action    = ["sts:TagSession"]
        Condition = condition
      } if length(var.trusted.session_tags) > 0
    ],
  )

  issuer = var.service_accounts == null ? "" : replace(var.service_accounts.oidc_provider_arn, "/^.*:oidc-provider//", "")
  federated = [
    for each in var.service_accounts == null ? [] : [var.service_accounts] : {
      Sid       = "ServiceAccounts"
      Effect    = "Allow"
      Principal = { Federated = [each.oidc_provider_arn] }
      Action    = ["sts:AssumeRoleWithWebIdentity"]
      Condition = {
        StringEquals = {
          "${local.issuer}:aud" = ["sts.${local.dns_suffix}"]
          "${local.issuer}:sub" = [for subject in each.subjects : "system:serviceaccount:${subject}"]
        }
      }
    }
  ]
}

output "policy" {
  description = "The policy as an object."
  value = {
    Version = "2012-10-17"
    Statement = [
      for each in concat(local.statements, local.decrypting) : merge(
        { Sid = each.sid, Effect = "Allow", Action = each.actions, Resource = each.resources },
        { for key, conditions in { Condition = try(each.conditions, null) } : key => conditions if conditions != null },
      ) if each.when
    ]
  }
}

output "trust_policy" {
  description = "The trust policy of the role as an object."
  value = {
    Version   = "2012-10-17"
    Statement = concat(local.trust, local.federated)
  }
}
