"""A model that costs nothing and says the same thing every time, and an agent that asks it.

`provider` speaks the model APIs of Anthropic and OpenAI over HTTP; `agent` is a real agent of the Agent Client Protocol
that asks such an API. They carry the demo and the tests, and let a person try a set-up before any key is bought.
"""
