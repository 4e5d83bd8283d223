/** How a training notices that it has diverged, goes back, and goes on. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type LossGuardState, type Readable, type RestoredState, trainLoop } from "novae/nn/mod.ts";
import { freshGuard, LossGuard } from "../lib/nn/loss_guard.ts";
import { Rng, scalar } from "novae/tensor/mod.ts";

interface Saved {
  readonly state: number;
  readonly step: number;
  readonly guard: LossGuardState;
}

/** A training whose state hashes the batches it saw and whose loss is told by a function of the step and the returns. */
class Trial {
  readonly saved: Saved[] = [];
  readonly events: unknown[] = [];
  readonly logged: number[][] = [];
  readonly read: number[] = [];

  constructor(readonly loss: (step: number, returns: number) => number, readonly keep = true) {}

  options(steps: number, from: Saved | null = null) {
    const metric = (value: number): Readable => ({
      read: () => Promise.resolve(scalar(value)),
      dispose: () => {},
    });
    return {
      state: from?.state ?? 1,
      startStep: from?.step ?? 0,
      guard: from?.guard,
      steps,
      batchSize: 4,
      batch: (step: number, returns: number): [number, number] => [step, returns],
      step: (state: number, [step, returns]: [number, number]): Promise<[number, Record<string, Readable>]> =>
        Promise.resolve([
          (state * 31 + step + 7919 * returns) % 1000003,
          { loss: metric(this.loss(step + 1, returns)) },
        ]),
      divergence: { factor: 2, windowSteps: 4 },
      checkpointEverySteps: 3,
      onCheckpoint: (state: number, step: number, guard: LossGuardState): void => {
        this.saved.push({ state, step, guard });
      },
      logEverySteps: 2,
      onLog: ({ step, metrics }: { step: number; metrics: Readonly<Record<string, number>> }): void => {
        this.logged.push([step, metrics.loss]);
      },
      onMetrics: (_: unknown, step: number): void => void this.read.push(step),
      restore: (goodUntil: number): Promise<RestoredState<number> | null> => {
        this.events.push(goodUntil);
        const found = this.keep ? this.saved.findLast(({ step }) => step <= goodUntil) : undefined;
        while (this.saved.length > 0 && this.saved.at(-1)!.step > (found?.step ?? 0)) this.saved.pop();
        return Promise.resolve(found ?? null);
      },
      onReturn: (event: unknown): void => void this.events.push(event),
    };
  }
}

Deno.test("a loss that settles far above where it was sends the training back to before its window, once", async () => {
  // Windows end at 4, 8, 12, …; the third is three times the second.
  const trial = new Trial((step, returns) => returns === 0 && step > 8 ? 3 : step <= 4 ? 5 : 1);
  const { state, step } = await trainLoop(trial.options(18));
  assert.equal(step, 18);
  const reason =
    "the loss was 3.000 on average over the last 4 updates, more than 2 times the 1.000 that it had reached";
  assert.deepEqual(trial.events, [8, { step: 12, backTo: 6, reason }]);
  assert.deepEqual(trial.saved.map((saved) => saved.step), [3, 6, 9, 12, 15, 18]);
  assert.deepEqual(trial.saved.map(({ guard }) => guard.returns), [0, 0, 1, 1, 1, 1]);
  assert.deepEqual(trial.logged.map(([at]) => at), [2, 4, 6, 8, 10, 8, 10, 12, 14, 16, 18]);
  let wanted = 1;
  for (let i = 0; i < 6; i++) wanted = (wanted * 31 + i) % 1000003;
  for (let i = 6; i < 18; i++) wanted = (wanted * 31 + i + 7919) % 1000003;
  assert.equal(state, wanted, "from step 6 on with the batches of the first return");
});

Deno.test("a second divergence ends the training, and so does one without a checkpoint from before", async () => {
  const always = (step: number) => step > 7 ? NaN : 1;
  await assert.rejects(trainLoop(new Trial(always).options(20)), {
    name: "DivergenceError",
    message:
      "Training stopped at step 8: the loss must be finite, got NaN; the last good checkpoint is of step 6; " +
      "it had gone back and on with other batches once already",
  });
  const none = new Trial(always, false);
  await assert.rejects(trainLoop(none.options(20)), {
    name: "DivergenceError",
    message:
      "Training stopped at step 8: the loss must be finite, got NaN; the last good checkpoint is of step 6",
  });
  assert.deepEqual(none.events, [7]);
  const { restore: _, ...unable } = new Trial((step) => step > 4 ? 9 : 1).options(20);
  await assert.rejects(trainLoop({ ...unable, checkpointEverySteps: 100 }), {
    name: "DivergenceError",
    message:
      "Training stopped at step 8: the loss was 9.000 on average over the last 4 updates, more than 2 times " +
      "the 1.000 that it had reached; no checkpoint was made yet",
  });
});

Deno.test("a training killed before, while and after it went back ends as an uninterrupted one", async () => {
  const loss = (step: number, returns: number) =>
    returns === 0 && step > 8 ? 3 : 1 + new Rng(step).next() / 4;
  const whole = await trainLoop(new Trial(loss).options(24));
  for (let stop = 1; stop < 24; stop++) {
    const cut = new Trial(loss), dies = new Error("killed");
    let updates = 0;
    const options = cut.options(24), step = options.step;
    options.step = (state, batch) => ++updates > stop ? Promise.reject(dies) : step(state, batch);
    await assert.rejects(trainLoop(options), dies);
    const resumed = await trainLoop(cut.options(24, cut.saved.at(-1) ?? null));
    assert.deepEqual(resumed, whole, `killed after ${stop} updates`);
  }
});

Deno.test("what a guard has seen does not depend on where the training was cut, nor on reads out of turn", () => {
  fc.assert(
    fc.property(
      fc.array(fc.double({ min: 0.5, max: 1, noNaN: true }), { minLength: 1, maxLength: 40 }),
      fc.nat(40),
      fc.integer({ min: 1, max: 3 }),
      (losses, cut, every) => {
        const rule = { factor: 2.5, windowSteps: 5 };
        const see = (guard: LossGuard, from: number, to: number) => {
          for (let step = from + 1; step <= Math.min(to, losses.length); step++) {
            const told = guard.judge(new Map([["loss", losses[step - 1]]]), step, step % every === 0);
            assert.equal(told, null, "losses within a factor of two are healthy");
          }
          return guard;
        };
        const whole = see(new LossGuard(rule, freshGuard(0)), 0, losses.length);
        const first = see(new LossGuard(rule, freshGuard(0)), 0, cut);
        const kept = JSON.parse(JSON.stringify(first.state)) as LossGuardState;
        const second = see(new LossGuard(rule, kept), cut, losses.length);
        assert.deepEqual(second.state, whole.state);
      },
    ),
    { numRuns: 1000 },
  );
});

Deno.test("any loss and the norm of the gradient must be finite; other metrics and negative losses may be what they are", () => {
  const guard = new LossGuard({ factor: 2, windowSteps: 1 }, freshGuard(0));
  const judge = (metrics: Record<string, number>, step: number) =>
    guard.judge(new Map(Object.entries(metrics)), step, true);
  assert.equal(judge({ loss: -1, speed: NaN }, 1), null);
  assert.equal(judge({ loss: 3 }, 2), null, "no factor of a negative average says anything");
  assert.deepEqual(judge({ loss: 1, judgeLoss: NaN }, 3), {
    reason: "the judgeLoss must be finite, got NaN",
    goodUntil: 2,
  });
  assert.deepEqual(
    judge({ loss: 1, gradNorm: Infinity }, 4)?.reason,
    "the gradNorm must be finite, got Infinity",
  );
  assert.equal(new LossGuard(null, freshGuard(0)).judge(new Map([["loss", 1e30]]), 1, true), null);
});

Deno.test("the loop reads as seldom as it is told, and validates before it checkpoints", async () => {
  const order: string[] = [];
  const trial = new Trial(() => 1), options = trial.options(9);
  await trainLoop({
    ...options,
    logEverySteps: 8,
    readEverySteps: 4,
    checkpointEverySteps: 6,
    validateEverySteps: 3,
    onValidate: (_, step) => void order.push(`validate ${step}`),
    onCheckpoint: (_, step) => void order.push(`save ${step}`),
    evaluateAtSteps: [6],
    onEvaluate: (_, step) => void order.push(`evaluate ${step}`),
  });
  assert.deepEqual(trial.read, [3, 4, 6, 8, 9]);
  assert.deepEqual(order, ["validate 3", "validate 6", "save 6", "evaluate 6", "validate 9", "save 9"]);
});
