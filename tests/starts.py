#!/usr/bin/env python3
"""How soon a function's program asks for its first invocation, and what it weighs, beside Python with boto3's clients for the same services.

    cargo build --release -p deploy-services
    target/tools/aws-sam-cli/bin/python tests/starts.py target/release/deploy-services

Any Python that has boto3 will do. A machine is not Lambda: there, a program is read from afar and has less of a core. What is compared
here are programs, one after the other, on one machine.
"""

import http.server
import io
import os
import subprocess
import sys
import threading
import time
import zipfile

RUNS = 40

PYTHON = """
import os, urllib.request, boto3
for service in ("codepipeline", "ecs", "codedeploy", "logs", "s3", "ssm"):
    boto3.client(service, region_name="us-east-1")
urllib.request.urlopen(f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/2018-06-01/runtime/invocation/next").read()
"""


class Runtime(http.server.BaseHTTPRequestHandler):
    """Lambda's Runtime API, as far as the first question; it is never answered."""

    def do_GET(self):
        if self.path.endswith("/runtime/invocation/next"):
            self.server.asked.append(time.monotonic())
            self.server.question.set()
            self.server.over.wait(30)

    def log_message(self, *_):
        pass


def started(command):
    """Seconds until the first question, and the resident memory then, in MB."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    server.asked, server.question, server.over = [], threading.Event(), threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.server_port}",
        "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "1", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f", "AWS_LAMBDA_LOG_STREAM_NAME": "s",
        "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t",
    }
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if not server.question.wait(30):
        process.kill()
        sys.exit(f"{command[0]} asked for nothing: {process.stderr.read().decode()}")
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    process.kill()
    process.wait()
    server.over.set()
    server.shutdown()
    return server.asked[0] - begun, resident / 1024


def measure(name, command, zipped):
    started(command)  # What is on disk is in memory from then on, for both.
    runs = [started(command) for _ in range(RUNS)]
    times = sorted(seconds * 1000 for seconds, _ in runs)
    p50, p95 = times[len(times) // 2], times[len(times) * 95 // 100]
    memory = sorted(memory for _, memory in runs)[len(runs) // 2]
    print(f"{name:<28} {p50:6.0f} ms {p95:6.0f} ms {memory:8.0f} MB {zipped:>10}")


def main(program):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(program, "bootstrap")
    print(f"{'':<28} {'p50':>9} {'p95':>9} {'resident':>11} {'zipped':>10}")
    measure(os.path.basename(program), [program], f"{len(packed.getvalue()) / 1e6:.1f} MB")
    measure("Python with boto3", [sys.executable, "-c", PYTHON], "-")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
