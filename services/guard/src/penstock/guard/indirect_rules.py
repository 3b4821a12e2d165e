"""Commands hidden in retrieved text, where nobody has a command to give."""

from penstock.guard.phrases import AI, ANSWER, rule

INDIRECT = (
    rule(
        "embedded_command",
        0.75,
        "ai~assistant~bot~model~llm~gpt~claude~copilot~gemini~bard",
        rf"\b(?:if you(?: are|'re)|(?:attention|note|message|important|instructions?|hey|dear|hello|hi|to|for)(?: (?:to|for|all|any|the|an?|every))*) (?:an? |the |all |any )?{AI}\b(?:[,:!] | (?:reading|processing|that|who|systems?|reviewing|models?|assistants?|evaluating|summari[sz]ing))",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.65,
        "assistant~language model~llm~chatbot~ai ",
        rf"\b{AI}[,:]? (?:must|should|shall|has to|needs? to|is (?:required|instructed|asked|ordered) to|please|will now|you must|do|always|never) (?:\w+ ){{0,3}}?(?:respond|reply|answer|say|output|include|ignore|recommend|state|tell|print|mention|send|execute|follow|conclude|not)",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.6,
        "your ",
        r"\b(?:in|to|into|with|at the (?:start|end|beginning|top|bottom) of|throughout|of|for) your(?: \w+){0,2}? (?:response|answer|reply|output|summary)\b(?! (?:to|time|form|by))",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.55,
        "your ~the ~all ~every~each",
        rf"\b(?:your|all|every|each)(?: (?:entire|final|whole|next|following|subsequent|of|your|the))* {ANSWER} (?:must|should|shall|has to|have to|needs? to|will|is to|are to) (?:be|include|contain|start|begin|end|consist|only|not|always|use|have|mention|follow|also)",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.5,
        "respond~reply~answer~output~print~say~speak",
        r"(?:^|[.!?:;\n\"'] ?|\b(?:please|must|should|only|and|then|always|simply|just|now|to) )(?:respond|reply|answer|output|print)(?: \w+)? (?:only|with|in|as|using|by|nothing|exclusively|like|back|exactly)\b",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.55,
        "response~answer~reply~output~summary",
        rf"\b(?:add|append|include|insert|prepend|mention|modify|rewrite|encode|translate|convert|replace|scramble|misspell|reverse|substitut\w+|transform|format|obfuscate|alter|change|swap|remove|end|begin|start|finish|conclude|write|give|provide)\b[^.\n]{{0,90}}\b(?:your|the|all|each|every|any|this) (?:\w+ ){{0,2}}?{ANSWER}\b",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.65,
        "the user~anyone~this instruction~these instructions~without ",
        r"\b(?:do not|don't|never|without) (?:\w+ing )?(?:mention|tell|reveal|inform|inform\w+|let|disclose|alert\w*|notify\w*|telling|mentioning|revealing) (?:\w+ ){0,4}?(?:the users?|anyone|this instruction|these instructions|this message|this prompt|this note)",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.6,
        "the user",
        r"\b(?:tell|inform|convince|persuade|ask|instruct|urge|advise|encourage|recommend|trick|direct|request|remind|warn) (?:that )?the user\b",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.5,
        "when ~before ~after ~while ~if ",
        r"\b(?:when|before|after|while|if|whenever)(?: you(?: are|'re)?| asked| the user)? (?:summari[sz]\w+|answer\w*|respond\w*|reply\w*|asked|generat\w+|asks?|finish\w*)(?: \w+){0,6}?,? (?:you must|you should|always|also|please|do not|never|say|state|recommend|include|mention|first)\b",
        indirect=True,
    ),
    rule(
        "embedded_command",
        0.35,
        "write~compose~draft~create~generate~explain~translate~tell me~describe~teach~help me~provide me~give me~suggest~recommend",
        r"(?:^|[.!?:;\n] ?)(?:please |kindly |also,? |now,? |can you |could you |would you |finally,? )?(?:write|compose|draft|create|generate|explain|translate|tell me|describe|teach me|help me|provide me|give me|suggest|make me|show me|compute|calculate) (?:\w+ ){0,3}?(?:an?|the|some|me|how|what|why|this|that|it)\b",
        indirect=True,
    ),
)

CODE = (
    rule(
        "malicious_code",
        0.6,
        "requests.~urlopen~http.client~socket~urllib~fetch(~curl~smtplib~xmlhttprequest",
        r"(?:environ|getenv|/etc/(?:passwd|shadow)|\.ssh/|id_rsa|cookies?|login data|localstorage|history|clipboard|keychain|/proc/|platform\.|getpass|uname|ifconfig|lsusb|device)[\s\S]{0,600}?(?:requests\.(?:post|put|get)|urlopen|\.sendall|sendmail|fetch\(|http\.client|curl|xmlhttprequest)",
        indirect=True,
    ),
    rule(
        "malicious_code",
        0.6,
        "document.cookie~stratum+tcp~xmrig~minerd~cryptonight~/dev/mem~/proc/~mimikatz~/dev/tcp",
        r"document\.cookie|stratum\+tcp|\bxmrig\b|\bminerd\b|\bcryptonight\b|/dev/(?:mem|kmem)\b|/proc/(?:self|\w+|\{[^}]*\})/(?:mem|maps)\b|\bmimikatz\b|/dev/tcp/",
        indirect=True,
    ),
    rule(
        "malicious_code",
        0.6,
        "rm -rf~mkfs~shutdown~| sh~| bash~dd if=~:(){",
        r"\brm -rf (?:/|~|\*|--no-preserve)|\bmkfs\.|\bdd if=\S+ of=/dev/|(?:curl|wget) [^\n|]{4,200}\| ?(?:sudo )?(?:ba)?sh\b|:\(\) ?\{ ?:\|:",
        indirect=True,
    ),
    rule(
        "malicious_code",
        0.5,
        "smtplib~sendmail",
        r"\bfor\b[^\n]{0,60}\b(?:in)\b[\s\S]{0,300}?\bsend(?:mail|_message)\(|send(?:mail|_message)\([\s\S]{0,40}\bfor\b",
        indirect=True,
    ),
    rule(
        "malicious_code",
        0.5,
        "nmap~scapy~socket~paramiko~bruteforce~brute_force",
        r"\b(?:nmap\.|scapy|paramiko\.)|for \w+ in range\([^\n]{0,40}\)[\s\S]{0,160}?(?:\.connect(?:_ex)?\(|bruteforce)",
        indirect=True,
    ),
    rule(
        "malicious_code",
        0.5,
        "b64decode~exec(~eval(~marshal~fromhex",
        r"\b(?:exec|eval)\( ?(?:\w+\.)*(?:b64decode|decompress|loads|fromhex|decode|urlopen|compile)\b",
        indirect=True,
    ),
)
