export async function rpcTests(..._: unknown[]) {}
