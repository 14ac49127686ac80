"""Windows of accounts: a provider's quota, the even-spread line, and what may begin under it. Pure."""
