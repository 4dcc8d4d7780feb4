export async function ruleTests(..._: unknown[]) {}
