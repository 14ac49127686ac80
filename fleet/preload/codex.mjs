// Loaded into codex-acp before its own code. The adapter declares every folder it opens trusted, and then Codex obeys
// the folder's own .codex/config.toml: it may start programs and choose its own approvals. Here the declaration is
// turned into its opposite on its way to Codex.
//
// The words are matched as JSON has them outside of text: within a text the quotation marks would be escaped.
import childProcess from "node:child_process";
import { syncBuiltinESMExports } from "node:module";

// Not for the programs that the agent starts.
delete process.env.NODE_OPTIONS;

const TRUSTED = /"trust_level"\s*:\s*"trusted"/g;
const UNTRUSTED = '"trust_level":"untrusted"';
const spawn = childProcess.spawn;

childProcess.spawn = function (...call) {
  const child = spawn.apply(this, call);
  if (child.stdin) {
    const write = child.stdin.write;
    child.stdin.write = function (chunk, ...rest) {
      const words =
        typeof chunk === "string"
          ? chunk.replace(TRUSTED, UNTRUSTED)
          : Buffer.from(Buffer.from(chunk).toString("latin1").replace(TRUSTED, UNTRUSTED), "latin1");
      return write.call(this, words, ...rest);
    };
  }
  return child;
};
syncBuiltinESMExports();
