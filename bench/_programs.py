"""Twenty programs that make one flow and end: binaries and scripts under names of their own."""

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* flow ADDRESS PORT KIND FORK: KIND t = TCP, c = connected UDP, u = unconnected UDP; as a script's interpreter the
 * script's name comes first. */
int main(int argc, char **argv)
{
	char **word = argv + argc - 4;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(word[1])) };
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(atoi(word[1])) };
	int is_six = strchr(word[0], ':') != NULL, tcp = word[2][0] == 't', fd;
	struct sockaddr *to = is_six ? (void *)&six : (void *)&four;
	socklen_t size = is_six ? sizeof six : sizeof four;

	inet_pton(is_six ? AF_INET6 : AF_INET, word[0], is_six ? (void *)&six.sin6_addr : (void *)&four.sin_addr);
	if (word[3][0] == '1' && fork() > 0)
		return 0;
	fd = socket(is_six ? AF_INET6 : AF_INET, (tcp ? SOCK_STREAM | SOCK_NONBLOCK : SOCK_DGRAM), 0);
	if (word[2][0] == 'u')
		return sendto(fd, "x", 1, 0, to, size) != 1;
	connect(fd, to, size);
	return !tcp && send(fd, "x", 1, 0) != 1;
}
"""
BINARIES, SCRIPTS, SHELL_SCRIPTS = 10, 6, 4
SHELL_SCRIPT = """#!/bin/bash
if [ "$4" = 1 ]; then (echo > "/dev/udp/$1/$2") & else echo > "/dev/udp/$1/$2"; fi
"""


def make(folder: Path) -> list[Path]:
    """Build the programs: copies of a binary, scripts that it interprets, and scripts of a shell."""
    source, binary = folder / "flow.c", folder / "flow"
    source.write_text(SOURCE)
    subprocess.run(["cc", "-O2", "-o", binary, source], check=True)
    made: list[Path] = []
    for number in range(BINARIES):
        made.append(folder / f"program-{number}")
        shutil.copy(binary, made[-1])
    for number in range(SCRIPTS + SHELL_SCRIPTS):
        made.append(folder / f"script-{number}")
        made[-1].write_text(f"#!{binary}\n" if number < SCRIPTS else SHELL_SCRIPT)
    for path in made:
        os.chmod(path, 0o755)
    return made


def kind_of(path: Path, number: int) -> str:
    """Say what kind of flow a program makes the `number`th time; a shell knows connected UDP only."""
    return "c" if path.name.startswith("script-") and int(path.name[7:]) >= SCRIPTS else "tcu"[number % 3]
