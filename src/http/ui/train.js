// Training runs: a form for a new one, the list, one of them live, and the replay of a finished vocabulary.

import { fill, h, notice, number, own, table, time } from "./dom.js";
import { get, told } from "./api.js";
import { all } from "./vocabs.js";
import { JobPanel, stateOf } from "./job.js";
import { replayPanel } from "./replay.js";
import { TrainForm } from "./trainform.js";

const LOOK_EVERY_MS = 3000;
const MOST_SHOWN = 50;

export async function open(fields) {
  const list = await all(true);
  const view = new Train(list, fields);
  return { element: view.element, close: () => view.close() };
}

class Train {
  constructor(list, fields) {
    this.element = h("div", { class: "view train" });
    this.jobs = h("section", { class: "panel", "aria-label": "Jobs" });
    const id = fields.get("job");
    if (id) {
      this.job = new JobPanel(id, Object.fromEntries(fields), list);
      fill(this.element, h("h1", {}, "Train"), this.job.element, h("p", {}, h("a", { href: "#/train" }, "A new run, and all jobs")));
      return;
    }
    fill(this.element, h("h1", {}, "Train"), new TrainForm(list, fields).element, this.jobs, replayPanel(list, fields));
    this.look();
  }

  close() {
    clearTimeout(this.timer);
    this.job?.close();
    this.closed = true;
  }

  /** The list of jobs, looked at again while one of them goes on. */
  async look() {
    try {
      const { jobs } = await get("train");
      if (this.closed) return;
      this.draw(jobs);
      if (jobs.some((job) => ["queued", "running"].includes(job.state))) this.timer = setTimeout(() => this.look(), LOOK_EVERY_MS);
    } catch (error) {
      if (!this.closed && told(error)) fill(this.jobs, h("h2", {}, "Jobs"), notice(told(error), "bad"), h("button", { type: "button", onclick: () => this.look() }, "Look again"));
    }
  }

  draw(jobs) {
    const rows = jobs.slice(0, MOST_SHOWN).map((job) => [
      h("a", { href: `#/train?job=${job.id}` }, own(job.result ? `${job.name}@${job.result.vocab.version}` : job.name)),
      stateOf(job), new Date(job.created_at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }),
      job.result ? number(job.result.vocab_size) : ["failed", "cancelled"].includes(job.state) ? "–" : `${Math.round(job.progress.fraction * 100)} % done`,
      job.result ? time(job.result.seconds) : job.state === "running" ? `${time(job.progress.eta_seconds)} left` : "–"]);
    fill(this.jobs, h("h2", {}, "Jobs"),
      jobs.length === 0 ? h("p", { class: "help" }, "No vocabulary was trained here so far.") : table(`${number(jobs.length)} ${jobs.length === 1 ? "job" : "jobs"}, newest first`, ["vocabulary", "state", "accepted", "tokens", "time"], rows));
  }
}
