"""What each area of a gateway offers to operators, as operations (admin/actions.py).

They are thin: what they do are functions of admin/, which the command line calls too.

Each file has its `operations`; the list of all of them is in table.py.
"""
