variable "name" {
  description = "Name of the policy, and of the role where one is created."
  type        = string
  default     = "redshift-secrets"
}

variable "allow" {
  description = "What is allowed: see policy/variables.tf."
  type        = any
}

variable "caller_role_name" {
  description = "Name of the role that Airflow runs as, to attach the policy to."
  type        = string
  default     = null
}

variable "trusted" {
  description = "Create a role for the policy that these may assume: see policy/variables.tf."
  type        = any
  default     = null
}

variable "service_accounts" {
  description = "Create the role that Airflow runs as on EKS, for these service accounts: see policy/variables.tf."
  type        = any
  default     = null
}

variable "max_session_duration" {
  description = "Seconds that a session of the role may last."
  type        = number
  default     = 3600
}
