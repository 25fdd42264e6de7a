"""The simulated AWS of the laptop stand-in: boto3 talks to it where no AWS account is available."""

from redshift_secrets.local.aws.arns import warehouse_arn
from redshift_secrets.local.aws.endpoints import EndpointDirectory
from redshift_secrets.local.aws.faults import Calls, Fault, Faults
from redshift_secrets.local.aws.simulated import SimulatedAws

__all__ = ["Calls", "EndpointDirectory", "Fault", "Faults", "SimulatedAws", "warehouse_arn"]
