"""The MCP server: thin over the client, one tool for each thing that the command line does."""
