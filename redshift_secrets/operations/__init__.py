"""What people do with a site, for every face: data in, data out, nothing printed."""
