"""Builders: what each method of the clients sends, and what it makes of the answer.

A builder takes the client's `Core` and the method's own arguments and returns
a plan (see `_plans`). Its signature and docstring are the method's, in the
sync client and the aio one alike.
"""
