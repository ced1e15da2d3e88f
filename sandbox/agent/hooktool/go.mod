module katonic.ai/sandbox/hooktool

go 1.24
