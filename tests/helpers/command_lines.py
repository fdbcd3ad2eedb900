"""Commands of ours in texts: finds them, and parses them as the program does."""

import pathlib
import re
import shlex

from alexnet_tf.commands import cli

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("alexnet_tf/**/README.md")), *sorted(ROOT.glob(".github/*.md"))]

# A command begins with these words, perhaps after variables of the environment or a shell's prompt.
START = re.compile(r"(?:^|[\s`(])python (?:(train|export)\.py|-m alexnet_tf (\w+))(?=[\s`),.;]|$)")


def code_lines(text):
    """Returns the lines of code blocks, fenced or indented, with continued lines joined."""
    lines, is_fenced = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced or line.startswith("    "):
            lines.append(line.strip())
    return "\n".join(lines).replace("\\\n", " ").splitlines()


def commands(text):
    """Returns [(command, its arguments)]; comments, and what follows a pipe, are left out."""
    found = []
    for line in code_lines(text):
        match = START.search(line)
        if not match:
            continue
        rest = re.split(r"\s[|&;>]|\s#", line[match.end() :])[0]
        words = shlex.split(rest.replace("[", " ").replace("]", " "))
        found.append((match[1] or match[2], [re.sub(r"\|.*", "", word) for word in words]))
    return found


def parse(name, arguments):
    """Parses a command as far as its flags; a place-holder such as COUNT cannot stand for a number."""
    if name not in ("COMMAND", "NAME"):
        cli.parse_command(name, [word for word in arguments if word not in ("...", "--help")])
