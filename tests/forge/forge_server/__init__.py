"""A forge for tests: Gitea's and GitHub's API on loopback, in front of real git repositories.

It was written from the published API descriptions, and checks each request and response against them where they are
at hand (`api_description.py`). Both APIs show the same state: Gitea's is at `/api/v1`, GitHub's at `/api/v3` and
`/api/graphql`, as on an Enterprise Server. Git is at `/OWNER/NAME.git`, by `git http-backend`.

    async with ForgeServer() as forge:
        forge.add_user("ana")
        forge.add_org("acme", members=("ana", "muster"))
        forge.add_repository("acme/shop", files={"README.md": "A shop."})
        token = forge.add_token("muster")
        hook = forge.add_webhook("acme/shop", url, secret="...", kind="gitea")
        number = forge.add_issue("acme/shop", "It fails", author="ana", labels=("muster:coder",))
        forge.assign("acme/shop", number, "ana", by="ana")
        await forge.webhooks.idle()

- `world.py`: what is at the forge, and what people do there. Each change sends its webhooks.
- `faults.py`: what goes wrong with requests: `forge.faults`.
- `webhooks.py`: signed events, and how they get lost, doubled, reordered or forged: `forge.webhooks`.
- `bare_repository.py`, `git_http.py`: git, and what goes wrong with pushes: `forge.repository("acme/shop").git`.

At the end the server raises if a request or a response did not fit the description; `forge.violations` lists them.
"""
