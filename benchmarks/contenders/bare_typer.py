"""The baseline of the command line: a Typer program that parses one option and prints a line."""

import typer


def main(output: str = typer.Option("text", "--output", "-o")) -> None:
    """Print one line."""
    print(f"output {output}")


if __name__ == "__main__":
    typer.run(main)
