from penstock.local.commands import app

app(prog_name="penstock")
