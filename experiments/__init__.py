"""Launchers: flags, build, one library call, one result line."""
