/** What a user of the command line on Node has installed, bundled for a test: see `cli_test.ts`. */
export { Redis } from "ioredis6";
