"""What people do with a site."""
