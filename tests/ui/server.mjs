// The program in a process of its own, on a free port, with a folder of its own.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Server {
  constructor(program, settings = {}) {
    this.program = program;
    this.settings = settings;
    this.data = mkdtempSync(join(tmpdir(), "vocabd-page-"));
    this.listen = "127.0.0.1:0";
  }

  /** Starts, or starts again at the same address. */
  async start() {
    const environment = { VOCABD_LISTEN: this.listen, VOCABD_DATA_DIR: this.data, VOCABD_LOG_FORMAT: "json", ...this.settings };
    this.child = spawn(this.program, ["serve"], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
    this.log = "";
    await new Promise((ready, failed) => {
      const timer = setTimeout(() => failed(new Error(`the server does not listen:\n${this.log}`)), 60000);
      this.child.stderr.on("data", (chunk) => {
        this.log += chunk;
        const address = /"address":"(127\.0\.0\.1:\d+)"/.exec(this.log)?.[1];
        if (!address) return;
        clearTimeout(timer);
        this.listen = address;
        ready();
      });
      this.child.on("exit", (code) => failed(new Error(`the server ended with ${code}:\n${this.log}`)));
    });
    this.url = `http://${this.listen}/`;
    for (;;) {
      if ((await fetch(`${this.url}readyz`)).ok) return this;
      await new Promise((later) => setTimeout(later, 100));
    }
  }

  async stop(signal = "SIGTERM") {
    if (this.child.exitCode !== null) return;
    const over = new Promise((done) => this.child.once("exit", done));
    this.child.kill(signal);
    await over;
  }

  async end() {
    await this.stop("SIGKILL");
    rmSync(this.data, { recursive: true, force: true });
  }

  async call(method, path, body, headers = {}) {
    const raw = body instanceof Uint8Array || body instanceof FormData || typeof body === "string" || body === undefined;
    const kind = raw ? {} : { "content-type": "application/json" };
    const response = await fetch(this.url + path, { method, body: raw ? body : JSON.stringify(body), headers: { ...kind, ...headers } });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** Trains at once and waits for the end. */
  async train(request) {
    const { id } = await this.call("POST", "train", request);
    for (;;) {
      const job = await this.call("GET", `train/${id}`);
      if (job.state === "succeeded") return job;
      if (job.state === "failed") throw new Error(JSON.stringify(job.error));
      await new Promise((later) => setTimeout(later, 50));
    }
  }
}
