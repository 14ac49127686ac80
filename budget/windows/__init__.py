"""Windows: a provider's quota, the even-spread line, and the work that may begin under it. Pure."""
