"""The only folder that imports boto3: client, sessions, discovery, minting. Import it late: boto3 takes half a second."""
