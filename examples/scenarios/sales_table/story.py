"""A tool reads the table, with where each column stands; the formula is the model's, and can be checked."""

from agent import Agent

CALLERS = ("agent",)
READ = "spreadsheet/extract_table_to_json"


async def story(agent: Agent) -> None:
    agent.user("Trích bảng trong Sales_Data.txt thành JSON và gợi ý công thức Excel tính tổng cột Revenue.")
    table = await agent.call(READ, {"path": "Sales_Data.txt", "format": "csv"})
    column = next(each for each in table["columns"] if each["name"] == "Revenue")
    total = sum(row["Revenue"] for row in table["rows"])
    agent.reason(f"Revenue is column {column['letter']}: =SUM({column['range']}). By my own adding that is {total}.")
    agent.see("the range has as many cells as the table has rows", column["range"] == f"C2:C{table['row_count'] + 1}")

    agent.reason("A large table would fill my memory: I can ask for a part, and am told that there is more.")
    part = await agent.call(READ, {"path": "Sales_Data.txt", "max_rows": 2})
    agent.see("two of four rows, and it says so", part["truncated"] and len(part["rows"]) == 2)

    agent.reason("Are there tables elsewhere on this machine?")
    await agent.refused(READ, {"path": "../../../../etc/passwd"}, "failed")
    await agent.refused(READ, {"path": "Sales_Data.txt", "max_rows": 1000000}, "invalid_argument")
