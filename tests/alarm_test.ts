// The timer of a lock's life, on a clock that stands still until it is moved.
import { assertEquals } from "@std/assert";
import { Alarm, type Clock, type Timer } from "../core/clock.ts";

interface Standing extends Timer {
  readonly at: number;
  readonly fn: () => void;
  kept: boolean;
}

/** A clock with the timers that run on it. What is to be done soon is done at once, or kept in `soon`. */
function standing(soon?: (() => void)[]) {
  const timers = new Set<Standing>();
  let now = 1000;
  const clock: Clock = {
    monotonicMs: () => now,
    wallMs: () => now,
    after(ms, fn) {
      const timer: Standing = {
        at: now + ms,
        fn,
        kept: true,
        ref: () => timer.kept = true,
        unref: () => timer.kept = false,
      };
      timers.add(timer);
      return timer;
    },
    clear: (timer) => void timers.delete(timer as Standing),
    soon: (fn) => void (soon === undefined ? fn() : soon.push(fn)),
  };
  const moveTo = (to: number) => {
    now = to;
    for (const timer of [...timers]) {
      if (timer.at <= now && timers.delete(timer)) timer.fn();
    }
  };
  return { clock, moveTo, running: () => [...timers].map(({ at, kept }) => ({ at, kept })) };
}

Deno.test("alarm: it rings once, when it is due", () => {
  const { clock, moveTo, running } = standing();
  const alarm = new Alarm(clock);
  const rung: string[] = [];
  alarm.set(1100, () => rung.push("a"));
  moveTo(1099);
  assertEquals(rung, []);
  moveTo(1100);
  moveTo(5000);
  assertEquals([rung, running()], [["a"], []]);
});

Deno.test("alarm: set for later it keeps its timer, and rings only for the last thing it was set for", () => {
  const { clock, moveTo, running } = standing();
  const alarm = new Alarm(clock);
  const rung: string[] = [];
  alarm.set(1100, () => rung.push("a"));
  alarm.set(1500, () => rung.push("b"));
  assertEquals(running(), [{ at: 1100, kept: true }]);
  moveTo(1100);
  assertEquals([rung, running()], [[], [{ at: 1500, kept: true }]]);
  moveTo(1500);
  assertEquals([rung, running()], [["b"], []]);
});

Deno.test("alarm: set for sooner it rings sooner", () => {
  const { clock, moveTo, running } = standing();
  const alarm = new Alarm(clock);
  const rung: string[] = [];
  alarm.set(1500, () => rung.push("a"));
  alarm.set(1100, () => rung.push("b"));
  assertEquals(running(), [{ at: 1100, kept: true }]);
  moveTo(1100);
  moveTo(1500);
  assertEquals([rung, running()], [["b"], []]);
});

Deno.test("alarm: in the background it keeps no process alive, not even when it has rung too early", () => {
  const { clock, moveTo, running } = standing();
  const alarm = new Alarm(clock);
  alarm.set(1100, () => {});
  alarm.set(1500, () => {}, true);
  assertEquals(running(), [{ at: 1100, kept: false }]);
  moveTo(1100);
  assertEquals(running(), [{ at: 1500, kept: false }]);
  alarm.set(1600, () => {});
  assertEquals(running(), [{ at: 1500, kept: true }]);
  alarm.stop();
  alarm.stop();
  assertEquals(running(), []);
});

Deno.test("alarm: what is due at once lets some time pass", () => {
  const { clock, running } = standing();
  const alarm = new Alarm(clock);
  alarm.set(1000, () => {});
  assertEquals(running(), [{ at: 1001, kept: true }]);
});

Deno.test("alarm: its timer follows when the current event is over, and what was over by then has cost none", () => {
  const soon: (() => void)[] = [];
  const { clock, running } = standing(soon);
  let made = 0;
  const { after } = clock;
  clock.after = (ms, fn) => {
    made++;
    return after(ms, fn);
  };
  const alarm = new Alarm(clock);
  const settle = () => soon.splice(0).forEach((fn) => fn());
  alarm.set(1100, () => {});
  alarm.stop();
  assertEquals([soon.length, running()], [1, []]);
  settle();
  assertEquals([made, running()], [0, []]);
  alarm.set(1100, () => {});
  settle();
  alarm.stop();
  alarm.set(1200, () => {}, true);
  settle();
  assertEquals([made, running()], [1, [{ at: 1100, kept: false }]]);
  alarm.stop();
  settle();
  assertEquals(running(), []);
});
