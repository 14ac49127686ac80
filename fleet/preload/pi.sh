#!/bin/sh
# What pi-acp starts instead of pi: the same, without extensions. A project's extensions are programs.
exec "${MUSTER_PI:-pi}" --no-extensions "$@"
