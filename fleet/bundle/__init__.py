"""A directory that carries releases, a site's files, models and the tool itself across an air gap."""
