"""Debian and Ubuntu packages without running anything of them: signed indexes, dependencies, .deb files, dpkg's database, a minimal base.

Specifications: Debian Policy (versions, relations, maintainer scripts), deb(5), deb822(5), dpkg's source for the files of its database.
"""
