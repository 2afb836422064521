"""The steps of scripts/mac-evidence, its reports, and the page that compares them."""
