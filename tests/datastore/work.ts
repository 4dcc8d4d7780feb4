export async function workTests(..._: unknown[]) {}
