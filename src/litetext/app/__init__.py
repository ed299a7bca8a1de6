"""The page in the browser: a demo and a workbench. Each tab is functions that need no browser, and thin wiring."""
