"""What anybody on the machine can see of its processes."""

import subprocess


def command_lines():
    return subprocess.run(["ps", "-axww", "-o", "args="], capture_output=True, text=True, check=True).stdout.splitlines()
