// A service of NestJS whose job runs in one instance at a time: compiled as its projects are, with
// `experimentalDecorators` and `emitDecoratorMetadata` to CommonJS. Says what it has seen, and ends by itself.
import "reflect-metadata";
import { Injectable, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { Cron, Interval, ScheduleModule, SchedulerRegistry } from "@nestjs/schedule";
import { configure, currentLock, Lock, lock } from "@holdfast/lock";
import { memoryBackend } from "@holdfast/lock/backends/memory";

@Injectable()
class Prices {
  readonly today = 42;
}

@Injectable()
class Reports {
  readonly seen: string[] = [];
  done!: () => void;
  readonly isDone = new Promise<void>((resolve) => (this.done = resolve));

  constructor(private readonly prices: Prices) {}

  @lock("report", { wait: false })
  @Cron("0 0 4 1 1 *", { name: "report" })
  async refresh(): Promise<void> {
    this.seen.push(`cron ${currentLock()?.identifier} ${this.prices.today}`);
  }

  @lock("poll")
  @Interval("poll", 5)
  async poll(): Promise<void> {
    if (!this.seen.includes("interval")) this.seen.push("interval");
    this.done();
  }

  @lock((user: string) => `charge:${user}`, { wait: false, onTaken: () => "taken" as const })
  async charge(user: string, cents: number): Promise<string> {
    return `${user} ${cents} ${this.prices.today}`;
  }

  @lock("static")
  static async make(): Promise<string> {
    return `${this.name} ${currentLock()?.identifier}`;
  }
}

@Module({ imports: [ScheduleModule.forRoot()], providers: [Reports, Prices] })
class App {}

async function main(): Promise<void> {
  configure({ strong: memoryBackend() });
  const app = await NestFactory.createApplicationContext(App, { logger: ["error"] });
  const reports = app.get(Reports);
  const job = app.get(SchedulerRegistry).getCronJob("report");
  await job.fireOnTick();
  await reports.isDone;
  const held = await Lock.acquire("charge:ada");
  const charged = [await reports.charge("bob", 5), await reports.charge("ada", 5)];
  await held?.release();
  await app.close();
  console.log(JSON.stringify([reports.seen.sort(), charged, await Reports.make()]));
}

void main();
