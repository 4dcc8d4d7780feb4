// What the examples of the docs take for granted: the app around them. Locks are in memory.
import { configure } from "@holdfast/lock";
import { memoryBackend } from "@holdfast/lock/backends/memory";

interface Work {
  signal?: AbortSignal;
  page?: number;
}

declare global {
  function buildReport(work?: Work): Promise<void>;
  function importRows(work?: Work): Promise<void>;
  function migrate(work?: Work): Promise<void>;
  function charge(user: string): Promise<void>;
  function pay(order: string): Promise<object>;
  function invoice(customer: string, signal: AbortSignal): Promise<void>;
  function drain(): Promise<void>;
  function fetchRates(day: string): Promise<string>;
  var cache: Map<string, string>;
  var handedOver: Promise<string>;
  var queue: { send(message: object): Promise<void> };
}

configure({ strong: memoryBackend() });
const nothing = () => Promise.resolve();
Object.assign(globalThis, {
  buildReport: nothing,
  importRows: nothing,
  migrate: nothing,
  charge: nothing,
  pay: () => Promise.resolve({}),
  invoice: nothing,
  fetchRates: (day: string) => Promise.resolve(`rates of ${day}`),
  cache: new Map<string, string>(),
});
