output "policy_arn" {
  description = "ARN of the policy."
  value       = aws_iam_policy.this.arn
}

output "role_arn" {
  description = "ARN of the role, where one is created: for accounts[].role_arn or role_arn, or for the service accounts."
  value       = one(aws_iam_role.this[*].arn)
}
