"""The model APIs that the simulated provider speaks, one module each: reading a request, writing an answer.

They do no I/O: a request is a JSON object, an answer is frames of bytes.
"""
