/**
 * What a test server runs in: a container on the tests' own engine, or a plain process in a network namespace.
 * Called by servers alone, which adds what is the same for both. testcontainers is named only here.
 */
import { fileURLToPath } from 'node:url';
import { dockerAt, type DockerOutput } from './docker.ts';
import { ensureImage } from './images.ts';
import { runProcess, spawnProcess, type SpawnedProcess } from './processes.ts';
import type { Run } from './run.ts';
import { isReady, type ServerPlan } from './server-kinds.ts';
import { testEngineSocket } from './test-engine.ts';
import { waitUntil } from './wait.ts';

export interface ServerBody {
  containerId(): string | undefined;
  /** Starts the program, at first or again; gives its process id on this machine. */
  launch(): Promise<number>;
  /** After the process has ended: returns when it can be launched again. */
  settle(): Promise<void>;
  /** One look from where its clients are. */
  ready(host: string, port: number): Promise<boolean>;
  logs(): Promise<string>;
  exec(argv: readonly string[]): Promise<DockerOutput>;
  /** Ends it whatever its state. Safe to repeat. */
  remove(): Promise<void>;
}

/**
 * A container in the host's network: the server itself listens on loopback. No bridge, no published port, no proxy
 * between client and server, and no firewall rule on the host.
 */
export function containerBody(run: Run, plan: ServerPlan): ServerBody {
  const socket = testEngineSocket();
  const docker = dockerAt(socket);
  let id: string | undefined;

  const create = async (): Promise<string> => {
    process.env['DOCKER_HOST'] = docker.host;
    process.env['TESTCONTAINERS_RYUK_DISABLED'] = 'true';
    // It would look the host up in the default bridge network, which this engine does not have.
    process.env['TESTCONTAINERS_HOST_OVERRIDE'] = '127.0.0.1';
    // Loaded late: it is large, and plain processes do without it.
    const { GenericContainer, StartupCheckStrategy } = await import('testcontainers');
    // Whether the server is up is asked below, at every start alike, and with its log in the error.
    const atOnce = new (class extends StartupCheckStrategy {
      override async checkStartupState(): Promise<'SUCCESS'> {
        return 'SUCCESS';
      }
    })();
    const container = await new GenericContainer(await ensureImage(docker, plan.kind))
      .withNetworkMode('host')
      .withBindMounts([{ source: run.dir, target: run.dir }])
      .withLabels({ 'elastic-dns-test.run': run.id })
      .withCommand([...plan.argv])
      .withWaitStrategy(atOnce)
      .start();
    return container.getId();
  };

  return {
    containerId: () => id,
    async launch() {
      if (id === undefined) id = await create();
      else await docker.start(id);
      return (await docker.inspect(id)).State.Pid;
    },
    async settle() {
      await waitUntil(async () => id === undefined || !(await docker.inspect(id)).State.Running, {
        what: 'the engine to see that the server has ended',
      });
    },
    ready: (host, port) => isReady(plan.kind, host, port),
    logs: async () => (id === undefined ? '' : docker.logs(id)),
    exec: async (argv) => docker.exec(id ?? '', argv),
    async remove() {
      if (id !== undefined) await docker.remove(id);
      id = undefined;
    },
  };
}

/** A child of the test process. */
export function processBody(netns: string | undefined): (run: Run, plan: ServerPlan) => ServerBody {
  return (run, plan) => {
    const where = netns === undefined ? {} : { netns };
    let current: SpawnedProcess | undefined;
    let earlier = '';
    const output = (): string => (current === undefined ? '' : current.stdout() + current.stderr());
    return {
      containerId: () => undefined,
      async launch() {
        earlier += output();
        current = await spawnProcess(run, plan.argv, { name: plan.kind, ...where });
        return current.pid;
      },
      async settle() {
        await current?.exited;
      },
      async ready(host, port) {
        if (netns === undefined) return isReady(plan.kind, host, port);
        const probe = fileURLToPath(new URL('ready-probe.ts', import.meta.url));
        const argv = [process.execPath, probe, plan.kind, host, String(port)];
        const { exitCode } = await runProcess(run, argv, { name: 'ready', ...where, timeoutMs: 5_000 });
        return exitCode === 0;
      },
      logs: async () => earlier + output(),
      exec: async (argv) => {
        const { stdout, stderr, exitCode } = await runProcess(run, argv, where);
        return { stdout, stderr, exitCode: exitCode ?? 1 };
      },
      async remove() {
        await current?.kill();
      },
    };
  };
}
