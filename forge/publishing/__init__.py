"""From an agent's commits to a branch at the forge: fetching, checking and pushing them.

The agent commits in its clone and holds no credential. Muster fetches its branch into a git folder that is deleted
afterwards (`incoming`), reads what is in it (`listing_reader`), decides what is wrong (`checks`, `secret_scan`), and
pushes exactly the commit that was checked (`push`).
"""
