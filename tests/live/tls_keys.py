# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys for a pool of hosts that may exchange VMs, made with openssl: a CA, and for each host a server's and a client's."""

import os
import subprocess


def _openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


def make(directory):
    """ca-cert.pem, {server,client}-{cert,key}.pem in the directory, as tern's --tls wants them."""
    os.makedirs(directory, exist_ok=True)
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
        "-subj", "/CN=tern test CA", "-keyout", "ca-key.pem", "-out", "ca-cert.pem", cwd=directory,
    )  # fmt: skip
    for who, purpose in (("server", "serverAuth"), ("client", "clientAuth")):
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN=tern {who}",
            "-keyout", f"{who}-key.pem", "-out", f"{who}.csr", cwd=directory,
        )  # fmt: skip
        with open(os.path.join(directory, f"{who}.ext"), "w", encoding="ascii") as extensions:
            extensions.write(f"extendedKeyUsage={purpose}\nkeyUsage=digitalSignature\n")
        _openssl(
            "x509", "-req", "-in", f"{who}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-days", "30", "-extfile", f"{who}.ext", "-out", f"{who}-cert.pem", cwd=directory,
        )  # fmt: skip
    for name in os.listdir(directory):
        os.chmod(os.path.join(directory, name), 0o644)
