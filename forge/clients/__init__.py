"""The clients of forges: Gitea (and Forgejo) and GitHub over one small HTTP core."""
