"""From a path to an answer: containment, files, listings, pages, media types, sites and mounts."""
