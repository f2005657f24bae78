// One training run: live while it goes on, its result at the end.

import { fill, figure, figures, h, notice, number, own, percent, say, size, time } from "./dom.js";
import { events, path, post, Refused, told } from "./api.js";
import { colourOf, content } from "./tokens.js";
import { curve } from "./charts.js";
import { Result } from "./result.js";

const STAGES = ["waiting", "counting", "preparing", "merging", "publishing", "done"];
const FEED = 14;
/** How long to wait before the server is asked again, at most. */
const LONGEST_WAIT_MS = 5000;

export class JobPanel {
  constructor(id, fields, list) {
    Object.assign(this, { id, fields, list, points: [] });
    this.head = h("div", {});
    this.connection = h("div", { "aria-live": "polite" });
    this.progress = h("progress", { max: "1", value: "0", "aria-label": "Share of the work done" });
    this.figures = h("div", {});
    this.feed = h("ol", { class: "feed", "aria-label": "The latest merges" });
    this.plot = h("div", {});
    this.cancelButton = h("button", { type: "button", class: "danger", onclick: () => this.cancel() }, "Cancel the run");
    this.live = h("div", {}, this.progress, this.figures, h("div", { class: "halves" },
      h("div", {}, h("h3", {}, "Bytes per token on the corpus"), this.plot), h("div", {}, h("h3", {}, "Merges"), this.feed)), this.cancelButton);
    this.result = h("div", {});
    this.element = h("div", {}, h("section", { class: "panel", "aria-label": "Training run" }, this.head, this.connection, this.live), this.result);
    this.stop = new AbortController();
    this.follow();
  }

  close() {
    this.stop.abort();
  }

  /** Follows the events, again and again: a server that is started anew goes on with its jobs. */
  async follow() {
    let wait = 250;
    while (!this.stop.signal.aborted && !this.ended) {
      try {
        let fresh = true;
        await events(path("train", this.id, "events"), (name, data) => {
          if (fresh) {
            // A new stream tells its curve from the beginning.
            fresh = false;
            wait = 250;
            if (this.lost) say("The server is there again.");
            this.lost = false;
            this.points = [];
            fill(this.connection);
          }
          if (name === "merging") this.merging(data);
          else this.show(data);
        }, this.stop.signal);
      } catch (error) {
        if (this.stop.signal.aborted) return;
        if (error instanceof Refused && error.status !== 0 && error.status < 500 && error.status !== 429) {
          fill(this.live);
          const gone = "There is no such job: its record was removed, or the link is of another server.";
          return void fill(this.connection, notice(error.status === 404 ? gone : told(error), "bad"));
        }
      }
      if (this.ended || this.stop.signal.aborted) return;
      this.lost = true;
      fill(this.connection, notice("The connection is gone: the server may be starting anew. A run goes on where it was; this page follows it again as soon as it can."));
      await new Promise((again) => setTimeout(again, wait));
      wait = Math.min(LONGEST_WAIT_MS, wait * 2);
    }
  }

  show(job) {
    const { progress } = job;
    const at = STAGES.indexOf(progress.stage);
    fill(this.head, h("h2", {}, own(job.name), " ", stateOf(job)),
      h("ol", { class: "stages", "aria-label": "Stages" }, STAGES.slice(0, -1).map((stage, n) => h("li", { class: n === at && !this.isOver(job) ? "now" : n < at ? "past" : "", "aria-current": n === at && !this.isOver(job) ? "step" : null }, stage))));
    this.progress.value = progress.fraction;
    fill(this.figures, figures(
      figure("done", percent(progress.fraction, 0)),
      figure("time left", time(progress.eta_seconds)),
      figure("read", size(progress.bytes_read), `of ${size(progress.bytes_total)}`),
      figure("pretokens", number(progress.pretokens)),
      figure("merges", number(progress.merges_done), progress.merges_total ? `of ${number(progress.merges_total)}` : null)));
    this.total = progress.merges_total;
    if (progress.bytes_per_token !== null && progress.bytes_per_token !== undefined) this.point(progress.merges_done, progress.bytes_per_token);
    this.drawCurve();
    if (this.isOver(job)) this.end(job);
  }

  isOver(job) {
    return ["succeeded", "failed", "cancelled"].includes(job.state);
  }

  point(merges, ratio) {
    const last = this.points.at(-1)?.[0] ?? -1;
    if (merges > last) this.points.push([merges, ratio]);
  }

  merging({ merges, curve: points }) {
    for (const { merges: at, bytes_per_token: ratio } of points) this.point(at, ratio);
    const rows = merges.slice(-FEED).reverse().map(({ id, token, count }) => h("li", {},
      h("span", { class: "what" }, h("span", { class: `token c${colourOf(id)}` }, content([{ text: token }]))), h("span", { class: "note" }, `${number(count)} times`)));
    this.feed.prepend(...rows);
    while (this.feed.children.length > FEED) this.feed.lastChild.remove();
  }

  drawCurve() {
    fill(this.plot, curve(this.points, "merges", "bytes per token", "Bytes per token as merges are made", this.total ?? 0));
  }

  async cancel() {
    this.cancelButton.disabled = true;
    try {
      await post(path("train", this.id, "cancel"), {});
      say("The run will end.");
    } catch (error) {
      if (told(error)) fill(this.connection, notice(told(error), "bad"));
      this.cancelButton.disabled = false;
    }
  }

  async end(job) {
    this.ended = true;
    this.cancelButton.remove();
    say(`The run ${job.state}.`);
    if (job.state === "failed") return fill(this.live, notice(`${job.error.detail} (${job.error.code})`, "bad"));
    if (job.state === "cancelled") return fill(this.live, notice("The run was cancelled. Nothing was published."));
    fill(this.live);
    const result = new Result(job, this.fields, this.points);
    fill(this.result, result.element);
    return result.start();
  }
}

export const stateOf = (job) => h("span", { class: `state ${job.state}` }, job.state);
