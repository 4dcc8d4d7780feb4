// A job that runs once per firing, in however many instances: NestJS with locks on Redis. See README.md.
import "reflect-metadata";
import { configure, lock, releaseAll } from "@holdfast/lock";
import { redisBackend } from "@holdfast/lock/backends/redis";
import { Inject, Injectable, Module, type OnApplicationShutdown } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { Cron, ScheduleModule } from "@nestjs/schedule";
import { Redis } from "ioredis";

const REDIS = Symbol("REDIS");

@Injectable()
class Reports {
  constructor(@Inject(REDIS) private readonly redis: Redis) {}

  // All instances fire. One gets the lock and keeps it for most of two seconds; the others skip this firing.
  @Cron("*/2 * * * * *")
  report(): Promise<void | undefined> {
    return this.#once(new Date().toISOString().slice(0, 19));
  }

  readonly #once = lock("report", { wait: false, holdAtLeastMs: 1500 })(async (second: string) => {
    await this.redis.rpush("reports", second);
  });
}

@Injectable()
class Locks implements OnApplicationShutdown {
  constructor(@Inject(REDIS) private readonly redis: Redis) {
    configure({ strong: redisBackend(redis) });
  }

  /** On SIGTERM: what this instance holds is free at once, not at the end of its lease. */
  async onApplicationShutdown(): Promise<void> {
    await releaseAll();
    this.redis.disconnect();
  }
}

@Module({
  imports: [ScheduleModule.forRoot()],
  providers: [
    { provide: REDIS, useFactory: () => new Redis(process.env.REDIS_URL ?? "redis://localhost:6379") },
    Locks,
    Reports,
  ],
})
class App {}

const app = await NestFactory.createApplicationContext(App, { logger: ["error", "warn"] });
app.enableShutdownHooks();
console.log("started");
