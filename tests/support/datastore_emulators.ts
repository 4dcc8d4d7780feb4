/** The official emulators of Google Cloud Datastore, where the Google Cloud CLI has installed them. */

import { freePort } from "./free_port.ts";

/** A server that speaks google.datastore.v1, running. */
export interface Server {
  readonly name: string;
  /** `host:port` of its gRPC and REST. */
  readonly host: string;
  /** Whether its answers say when they were made. */
  readonly tellsTime: boolean;
  /** Its process, where it has a separate one. */
  readonly pid?: number;
  stop(): Promise<void>;
}

interface Emulator {
  readonly name: string;
  /** The jar, below the CLI's `platform` folder. */
  readonly jar: string;
  readonly main: string;
  readonly args: readonly string[];
  readonly tellsTime: boolean;
}

const EMULATORS: readonly Emulator[] = [
  {
    name: "Datastore emulator",
    jar: "cloud-datastore-emulator/CloudDatastore.jar",
    main: "com.google.cloud.datastore.emulator.CloudDatastore",
    args: ["start", "--testing", "--store_on_disk=false"],
    tellsTime: false,
  },
  {
    name: "Firestore emulator in Datastore mode",
    jar: "cloud-firestore-emulator/cloud-firestore-emulator.jar",
    main: "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
    args: ["start", "--database-mode=datastore-mode"],
    tellsTime: true,
  },
];

/** What to do to have them. */
export const HOW_TO_GET =
  "install the Google Cloud CLI and Java, then: gcloud components install cloud-datastore-emulator " +
  "cloud-firestore-emulator";

/** How long a Java machine may take to come up on a busy machine. */
const START_MS = 60_000;

/** Starts the emulators that are installed; the others are `missing`, by name. */
export async function startEmulators(
  which: (name: string) => boolean = () => true,
): Promise<{ running: Server[]; missing: string[] }> {
  const platform = await platformFolder();
  const missing: string[] = [];
  const running = await Promise.all(
    EMULATORS.filter(({ name }) => which(name)).map(async (emulator) => {
      const jar = `${platform}/${emulator.jar}`;
      if (platform !== undefined && await exists(jar)) return await start(emulator, jar);
      missing.push(emulator.name);
    }),
  );
  return { running: running.filter((server) => server !== undefined), missing };
}

async function start({ name, main, args, tellsTime }: Emulator, jar: string): Promise<Server> {
  const port = await freePort();
  const java = new Deno.Command("java", {
    // Compiled little: it does not live long enough for more.
    args: [
      "-Xmx512m",
      "-XX:TieredStopAtLevel=1",
      "-XX:+UseSerialGC",
      "-Duser.language=en",
      "-cp",
      jar,
      main,
      ...args,
      "--host=127.0.0.1",
      `--port=${port}`,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const stop = async () => {
    try {
      java.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await java.status;
  };
  let ended = false;
  void java.status.then(() => ended = true);
  const deadline = performance.now() + START_MS;
  while (!await answers(port)) {
    if (ended || performance.now() > deadline) {
      await stop();
      throw new Error(`the ${name} did not come up`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { name, host: `127.0.0.1:${port}`, tellsTime, pid: java.pid, stop };
}

async function answers(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/`);
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

/** The `platform` folder of the CLI on the PATH, if there is one. */
async function platformFolder(): Promise<string | undefined> {
  for (const folder of (Deno.env.get("PATH") ?? "").split(":")) {
    try {
      const gcloud = await Deno.realPath(`${folder}/gcloud`);
      return gcloud.replace(/\/bin\/gcloud$/, "/platform");
    } catch {
      // Not here.
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
