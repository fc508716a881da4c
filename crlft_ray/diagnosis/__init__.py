"""`crlft doctor`: checks every node of the cluster, and says in a sentence what is to be mended.

Each check is a module with a function of the cluster; what runs on a node is pickled by value, so that a node is
examined even where this package is missing or another version, and imports what it needs only there.
"""
